"""Documents (ours, MetalLB's) → `model.Config`, or every problem in them. No I/O: text in, values out."""
