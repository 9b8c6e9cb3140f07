"""The event that every measurement tracks: nine properties, one user."""

NAME = "meal.logged"
PROPERTIES = {
    "meal": "lunch",
    "source": "app",
    "note": "soup of the day, with bread",
    "calories": 640,
    "score": 0.93,
    "vegan": False,
    "reference": None,
    "tags": ["warm", "quick", "regional"],
    "place": {"city": "Bern", "country": "CH", "floor": 2},
}
USER = "user-1234"


def properties_of(size: int) -> dict[str, object]:
    """Return properties of about ``size`` bytes as JSON: those above, and text in pieces of 200 characters."""
    pieces = max(0, size - 190) // 213
    return {**PROPERTIES, **{f"text-{number}": "x" * 200 for number in range(pieces)}}
