"""What a change of the project would do, before anything is sent: `nextmove plan`.

Two configurations decide for the same customers at the same moment with the same draws, in
memory; what differs is told. Nothing here decides by rules of its own and nothing is written.
"""
