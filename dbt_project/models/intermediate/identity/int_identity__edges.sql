with sightings as (
    select * from {{ ref('int_identity__sightings') }}
)

select distinct
    one.identifier_kind,
    one.identifier_value,
    other.identifier_kind as other_kind,
    other.identifier_value as other_value
from sightings as one
inner join sightings as other
    on one.sighting_id = other.sighting_id
    and one.identifier_kind <> other.identifier_kind
