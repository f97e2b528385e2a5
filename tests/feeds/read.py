"""Reads feeds from standard input, as a feed reader does: one JSON document out, with what it found."""

import json
import sys

import feedparser

parsed = feedparser.parse(sys.stdin.buffer.read(), response_headers={"content-type": sys.argv[1]})
print(json.dumps({
    "bozo": bool(parsed.bozo),
    "why": str(parsed.get("bozo_exception", "")),
    "version": parsed.version,
    "title": parsed.feed.get("title", ""),
    "id": parsed.feed.get("id", ""),
    "links": [[link.get("rel"), link.get("href")] for link in parsed.feed.get("links", [])],
    "entries": [{
        "id": entry.get("id", ""),
        "title": entry.get("title", ""),
        "link": entry.get("link", ""),
        "updated": list(entry.get("updated_parsed") or entry.get("published_parsed") or [])[:6],
        "content": "".join(part.value for part in entry.get("content", [])) or entry.get("summary", ""),
    } for entry in parsed.entries],
}))
