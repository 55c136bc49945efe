"""A local stand-in for the vendors, and for a receiver of webhooks, on one real socket.

It imitates the behaviour the vendors document publicly: authentication, request shapes,
size limits, rate-limit windows, partial failures, webhooks. It was written from those
public documents, never against a vendor account, so where the documents are silent the
answer here is a plain guess and says so in a comment. It shares no code with
`connectors.destinations`: what one side misreads, the other side shows.

Start it with `python -m connectors.sandbox --port 0 --dir DIR --webhooks URL`. Vendors are
mounted at `/braze`, `/iterable`, `/hubspot`, `/salesforce`, `/slack` and `/webhook`;
`/_sandbox` is for whoever drives it:

- `GET  /_sandbox/health`
- `GET  /_sandbox/ledger?vendor=&after=N`: every accepted effect in order, from the one after
  number N on; `next` is the N to ask with next time.
- `POST /_sandbox/engagements`: what people did with their messages; posts the webhooks.
- `POST /_sandbox/clock`: the time written on effects. Rate limits always use real time.
- `POST /_sandbox/faults`: make a vendor misbehave, by count or by share.

The ledger is the witness of what really happened. Each effect is written to
`DIR/ledger.jsonl` before its request is answered, so it outlives the death of any
process; it is fsynced in batches, ten times a second, and at exit. All that a vendor
remembers is a fold of its ledger: started again on the same directory, it goes on.
"""
