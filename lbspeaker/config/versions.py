"""The API versions whose kinds are read: ours, and MetalLB's."""

OURS = "lbspeaker.io/v1beta1"
METALLB = "metallb.io/v1beta1"
METALLB_2 = "metallb.io/v1beta2"


def known_in(version: str) -> str:
    """Return the hint for a key that only this version has."""
    return f"write apiVersion: {version}, which has this key"
