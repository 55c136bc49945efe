with seen as (
    select
        identifier_kind,
        identifier_value,
        min(first_seen_at) as first_seen_at,
        max(last_seen_at) as last_seen_at
    from {{ ref('int_identity__sightings') }}
    group by 1, 2
),

neighbours as (
    select
        identifier_kind,
        identifier_value,
        other_kind,
        -- A person has many browsers: ten anonymous ids weigh as much as one of another kind.
        count(*) / case when other_kind = 'anonymous_id' then 10.0 else 1.0 end as links
    from {{ ref('int_identity__edges') }}
    group by 1, 2, 3
),

widest as (
    select identifier_kind, identifier_value, max(links) as links
    from neighbours
    group by 1, 2
)

select
    -- Oldest first, so that the smallest node of a component is the one that names it.
    row_number() over (
        order by seen.first_seen_at, seen.identifier_kind, {{ nextmove.in_byte_order('seen.identifier_value') }}
    ) as node_id,
    seen.identifier_kind,
    seen.identifier_value,
    cast(coalesce(widest.links, 0) as double precision) as widest_links,
    coalesce(widest.links, 0) > {{ var('nextmove_max_links') }} as is_ignored,
    seen.first_seen_at,
    seen.last_seen_at
from seen
left join widest
    on seen.identifier_kind = widest.identifier_kind
    and seen.identifier_value = widest.identifier_value
