"""LoadBalancer Services for Kubernetes clusters without a cloud.

Core decides, wire encodes, shell acts; the programs put them together (docs/architecture.md).
"""

__version__ = "0.1.0"
