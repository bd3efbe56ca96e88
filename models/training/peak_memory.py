"""Largest resident memory of this process while something runs."""

import resource
from pathlib import Path

_CLEAR = Path("/proc/self/clear_refs")
_RESET_PEAK = "5"
"""proc_pid_clear_refs(5): what getrusage calls the maximum starts again at what is resident now."""
_KIB_PER_MIB = 1024.0


def forget_peak() -> bool:
    """Start measuring; False where the system does not allow it, and the peak is that of the process so far."""
    try:
        _CLEAR.write_text(_RESET_PEAK, encoding="ascii")
    except OSError:
        return False
    return True


def peak_mib() -> float:
    """Largest resident memory since `forget_peak`, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / _KIB_PER_MIB
