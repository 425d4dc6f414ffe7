"""Feeds: a partner's file becomes acts to report, by a mapping file that is data.

`read_mapping` and `map_feed` read an operator's CSV; `read_bank_mapping` and `bank_acts` make
the demonstration's bank acts. Nothing here knows gRPC, a database or another service.
"""

from services.activity.feeds.acts import REASONS, MappedAct, RefusedLine
from services.activity.feeds.bank import BankMapping, bank_acts, read_bank_mapping
from services.activity.feeds.interpret import map_feed, map_stream
from services.activity.feeds.load import FEEDS, feed_path, read_mapping
from services.activity.feeds.mapping import FeedMapping
from services.activity.feeds.shape import MappingInvalid

__all__ = [
    "FEEDS",
    "REASONS",
    "BankMapping",
    "FeedMapping",
    "MappedAct",
    "MappingInvalid",
    "RefusedLine",
    "bank_acts",
    "feed_path",
    "map_feed",
    "map_stream",
    "read_bank_mapping",
    "read_mapping",
]
