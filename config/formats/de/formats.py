"""How German writes the dates whose format a template spells out: a day has a dot.

Django looks up the format itself like the name of one (`django.utils.formats.get_format`).
"""

globals().update(
    {
        "j M": "j. M",
        "j M H:i": "j. M, H:i",
        "j M Y": "j. M Y",
        "j M Y, H:i e": "j. M Y, H:i e",
        "j M Y, H:i:s e": "j. M Y, H:i:s e",
        "j F Y": "j. F Y",
        "j F Y, H:i": "j. F Y, H:i",
        "j F Y, H:i e": "j. F Y, H:i e",
        "j F Y, H:i:s e": "j. F Y, H:i:s e",
    }
)
