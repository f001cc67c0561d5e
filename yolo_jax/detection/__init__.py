"""From boxes to targets and loss, and from predictions back to boxes."""
