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
