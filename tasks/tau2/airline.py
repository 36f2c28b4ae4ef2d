"""The airline domain: flights, users and reservations; the user has no tools."""

from __future__ import annotations

from harness.tasks.tau2.shop import ShopDomain


class AirlineDomain(ShopDomain):
    """Airline over the port's tool class."""

    name = "airline"
    database_class = "FlightDB"
    unended = True
    store_class = "AirlineAgentTools"
    records = {"flights": "Flight", "users": "User", "reservations": "Reservation"}
    reads = (
        "get_flight_status",
        "get_reservation_details",
        "get_user_details",
        "list_all_airports",
        "search_direct_flight",
        "search_onestop_flight",
    )
    writes = (
        "book_reservation",
        "cancel_reservation",
        "send_certificate",
        "update_reservation_baggages",
        "update_reservation_flights",
        "update_reservation_passengers",
    )
    order = (
        "book_reservation",
        "calculate",
        "cancel_reservation",
        "get_reservation_details",
        "get_user_details",
        "list_all_airports",
        "search_direct_flight",
        "search_onestop_flight",
        "send_certificate",
        "transfer_to_human_agents",
        "update_reservation_baggages",
        "update_reservation_flights",
        "update_reservation_passengers",
        "get_flight_status",
    )
