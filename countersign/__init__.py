"""The foundation: what every task, runtime and trial stands on, and nothing that knows one of them."""
