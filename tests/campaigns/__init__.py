"""Campaigns: what is too long for the tests. ``scripts/campaign NAME`` runs one, tests/campaigns a small part of each.

Each campaign is a file with ``HELP``, ``options(parser)`` and ``run(args)``; what they share is how a child is forked
(``children``), what it must not do (``watched``), what it may say (``told``), how tries are spread over processes and
counted (``ledger``).
"""
