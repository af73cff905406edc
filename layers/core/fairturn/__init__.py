"""Fairturn gives every new HubSpot lead to the right sales rep, fairly, and can prove it."""

import gc
import os
import random

IN_LAMBDA = "AWS_LAMBDA_INITIALIZATION_TYPE" in os.environ
"""Whether Lambda starts this process. It gives a whole processor until the function is ready for its first event."""

if IN_LAMBDA:
    gc.disable()  # what is imported stays, and looking for garbage among it is a tenth of a cold start


def ready() -> None:
    """Look for garbage from now on, but not among what is here to stay. Lambda may take a snapshot now."""
    gc.freeze()
    gc.enable()
    if os.environ.get("AWS_LAMBDA_INITIALIZATION_TYPE") == "snap-start":
        from snapshot_restore_py import register_after_restore  # only Lambda's runtime has it

        register_after_restore(random.seed)  # else all that start from one snapshot draw the same pauses
