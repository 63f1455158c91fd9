"""The four programs: supervisor, sentry, gofer, netstackd. They talk over sockets and never import each other.

What other people's programs may import stands in the package `sentrio`, not here.
"""
