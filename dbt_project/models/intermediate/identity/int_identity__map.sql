with identifiers as (
    select * from {{ ref('int_identity__identifiers') }}
),

components as (
    select * from {{ ref('int_identity__components') }}
)

select
    identifiers.identifier_kind,
    identifiers.identifier_value,
    {{ nextmove.customer_id_of('root.identifier_kind', 'root.identifier_value') }} as customer_id,
    identifiers.first_seen_at,
    identifiers.last_seen_at
from components
inner join identifiers on components.node_id = identifiers.node_id
inner join identifiers as root on components.root_id = root.node_id
