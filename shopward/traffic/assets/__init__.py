"""API assets: which interfaces there are, who may call them, what they give away, and how sure we are."""

from shopward.traffic.assets.inventory import Asset, Inventory
from shopward.traffic.assets.templates import Templates

__all__ = ["Asset", "Inventory", "Templates"]
