"""The API versions whose kinds are read: ours, and MetalLB's."""

OURS = "lbspeaker.io/v1beta1"
METALLB = "metallb.io/v1beta1"
METALLB_2 = "metallb.io/v1beta2"
