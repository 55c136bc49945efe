-- No edge joins two customers. When it does, raise var nextmove_identity_rounds.
with identity as (
    select * from {{ ref('int_identity__map') }}
)

select edges.identifier_value, edges.other_value, one.customer_id, other.customer_id as other_customer_id
from {{ ref('int_identity__edges') }} as edges
inner join identity as one
    on edges.identifier_kind = one.identifier_kind
    and edges.identifier_value = one.identifier_value
inner join identity as other
    on edges.other_kind = other.identifier_kind
    and edges.other_value = other.identifier_value
where one.customer_id <> other.customer_id
