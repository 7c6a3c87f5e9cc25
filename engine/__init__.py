"""The engine: identity, planning, storage and execution of stages. No science in it."""
