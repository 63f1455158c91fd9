"""Processors that the router leaves to its client (`apart`): told to the only client there is, and taken back."""

from __future__ import annotations

from tests.netstack.socket_service.client import Client, World


def told(world: World, client: Client) -> list[list[int]]:
    world.turn(3)
    client.read()
    found = [list(event.params[0]) for event in client.events if event.method == "apart"]
    client.events = [event for event in client.events if event.method != "apart"]
    return found


def test_the_only_client_is_asked_to_stay_where_the_router_is_not(world: World) -> None:
    client = world.client(world.namespace("one"))
    world.router.sockets.leave_processors(frozenset((3, 1)))
    assert told(world, client) == [[1, 3]]
    world.router.sockets.leave_processors(frozenset())
    assert told(world, client) == [[]]
    world.router.sockets.leave_processors(frozenset())
    assert told(world, client) == [], "it had been told"


def test_of_several_clients_none_is_asked_and_the_first_may_go_where_it_likes_again(world: World) -> None:
    one = world.client(world.namespace("one"))
    world.router.sockets.leave_processors(frozenset((0,)))
    two = world.client(world.namespace("two"))
    assert told(world, one) == [[0], []] and told(world, two) == []
    world.router.sockets.leave_processors(frozenset((0,)))
    assert told(world, one) == [] and told(world, two) == []


def test_a_client_that_left_is_told_nothing(world: World) -> None:
    one = world.client(world.namespace("one"))
    world.router.sockets.leave_processors(frozenset((0,)))
    one.sock.close()
    world.turn(3)
    world.router.sockets.leave_processors(frozenset())
    two = world.client(world.namespace("two"))
    assert told(world, two) == []
    world.router.sockets.leave_processors(frozenset((1,)))
    assert told(world, two) == [[1]]
