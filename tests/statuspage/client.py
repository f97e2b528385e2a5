"""Manages incidents at a page through an unmodified client of Statuspage, and prints what that client understood.

Arguments: the base of the address, the page's id, the key.
"""

import json
import sys

import statuspageio
from statuspageio.errors import RequestError, ResourceError

base, page, key = sys.argv[1:]
client = statuspageio.Client(api_key=key, page_id=page, base_url=base)


def refused(call):
    """What a call is refused with."""
    try:
        call()
    except (RequestError, ResourceError) as error:
        return [type(error).__name__, error.http_status, error.errors["message"]]
    return None


made = client.components.create(name="Payments", description="Cards and invoices", status="operational")
group = client.component_groups.create("Money", [made.id])
opened = client.incidents.create(
    name="Cards are declined", status="investigating", body="We look.", impact_override="major", component_ids=[made.id],
    wants_twitter_update=False, metadata={"ticket": {"id": "OPS-1"}},
)
client.components.update(made.id, status="major_outage")
unresolved = client.incidents.list_unresolved()
moved = client.incidents.update(opened.id, status="monitoring", body="A mend is out.")
corrected = client.incidents.update_previous(opened.id, moved.incident_updates[0].id, body="A mend is out everywhere.")
planned = client.incidents.create_scheduled(
    name="New disks", status="scheduled", body="Reads only.", scheduled_for="2030-01-01T00:00:00Z",
    scheduled_until="2030-01-01T01:00:00Z", scheduled_auto_in_progress=True, component_ids=[made.id],
)
upcoming = client.incidents.list_upcoming()
subscriber = client.subscribers.create(email="ann@shop.example", skip_confirmation_notification=True)
listed = client.subscribers.list()
client.subscribers.delete(subscriber.id)
deleted = client.incidents.delete(planned.id)
print(json.dumps({
    "page": client.pages.get().name,
    "component": made, "group": group, "opened": opened, "moved": moved, "corrected": corrected, "planned": planned,
    "components": [[one.id, one.status] for one in client.components.list() if not one.get("group")],
    "groups": [one.name for one in client.component_groups.list()],
    "unresolved": [one.name for one in unresolved], "upcoming": [one.name for one in upcoming],
    "subscribers": [[one.email, one.mode] for one in listed], "deleted": deleted,
    "found": [one.name for one in client.incidents.list(q="cards")],
    "wrong_status": refused(lambda: client.incidents.create(name="x", status="broken")),
    "unknown": refused(lambda: client.incidents.update("none", status="resolved", body="x")),
    "resolved": client.incidents.update(opened.id, status="resolved", body="Paid again.").status,
}))
