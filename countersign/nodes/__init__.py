"""The places where a runtime runs, behind one interface, and what keeps programs running on this one."""
