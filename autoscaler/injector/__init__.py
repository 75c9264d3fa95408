"""The admission webhook: puts the sidecar into pods and refuses wrong annotations. Served by every autoscaler."""
