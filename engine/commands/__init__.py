"""The commands of the command line, one file each; the one place that joins engine and leaderboard."""
