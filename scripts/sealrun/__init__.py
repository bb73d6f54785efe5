"""Sealrun releases machine-learning checkpoints with evidence that anyone can check.

lock     every environment pinned and hashed
sbom     what is in it
audit    what is known to be vulnerable in it
secrets  what should not be in the tree
model    what the models and data are, byte for byte
certify  the candidate measured against the baseline
verify   an independent second look
bundle   all of it signed, for a stranger to check
"""

__version__ = "0.1.0"
