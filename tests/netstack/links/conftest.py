"""The namespaces and the router of tests/netstack/router, for the links that need a host."""

from tests.netstack.router.conftest import world as world
