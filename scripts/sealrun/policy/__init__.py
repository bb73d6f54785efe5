"""Policy: what a release must satisfy, from files to frozen values (`load`), and how findings meet waivers (`judge`)."""
