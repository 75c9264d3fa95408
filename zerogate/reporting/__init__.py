"""How sidecars, gateways and activators tell the autoscalers what they count: one framed stream each."""
