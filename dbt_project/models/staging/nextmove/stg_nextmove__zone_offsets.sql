with source as (
    {{ nextmove.read_engine('zone_offsets', {
        'time_zone': 'text',
        'valid_from': 'timestamp',
        'valid_until': 'timestamp',
        'offset_minutes': 'integer'
    }) }}
)

select time_zone, valid_from, valid_until, offset_minutes
from source
