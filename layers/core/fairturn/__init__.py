"""Fairturn gives every new HubSpot lead to the right sales rep, fairly, and can prove it."""

import gc
import os

IN_LAMBDA = "AWS_LAMBDA_INITIALIZATION_TYPE" in os.environ
"""Whether Lambda starts this process. It gives a whole processor until the function is ready for its first event."""

if IN_LAMBDA:
    gc.disable()  # what is imported stays, and looking for garbage among it is a tenth of a cold start


def ready() -> None:
    """Look for garbage from now on, but not among what is here to stay."""
    gc.freeze()
    gc.enable()
