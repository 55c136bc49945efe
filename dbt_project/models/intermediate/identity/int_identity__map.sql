{#-
  Connected components by min-label propagation, unrolled. In each round a node offers the
  smallest label among its neighbours to itself and to the node whose label it carries, then
  every label is replaced by its own label (pointer jumping). Labels only fall, so a round
  too many is harmless; tests/identity_has_converged.sql says when there were too few.
-#}
{% set rounds = var('nextmove_identity_rounds') %}

with nodes as (
    select * from {{ ref('int_identity__identifiers') }} where not is_ignored
),

links as (
    select one.node_id, other.node_id as neighbour_id
    from {{ ref('int_identity__edges') }} as edges
    inner join nodes as one
        on edges.identifier_kind = one.identifier_kind
        and edges.identifier_value = one.identifier_value
    inner join nodes as other
        on edges.other_kind = other.identifier_kind
        and edges.other_value = other.identifier_value
),

labels_0 as (
    select distinct node_id, node_id as label from links
),

{% for round in range(1, rounds + 1) %}
{% set before = 'labels_' ~ (round - 1) %}
offers_{{ round }} as (
    select links.node_id, min(neighbour.label) as label
    from links
    inner join {{ before }} as neighbour on links.neighbour_id = neighbour.node_id
    group by 1
),

hooked_{{ round }} as (
    select node_id, min(label) as label
    from (
        select node_id, label from {{ before }}
        union all
        select node_id, label from offers_{{ round }}
        union all
        select labels.label as node_id, offers.label
        from offers_{{ round }} as offers
        inner join {{ before }} as labels on offers.node_id = labels.node_id
    ) as candidates
    group by 1
),

labels_{{ round }} as (
    select hooked.node_id, root.label
    from hooked_{{ round }} as hooked
    inner join hooked_{{ round }} as root on hooked.label = root.node_id
),

{% endfor %}
components as (
    select nodes.node_id, coalesce(labels.label, nodes.node_id) as root_id
    from nodes
    left join labels_{{ rounds }} as labels on nodes.node_id = labels.node_id
)

select
    nodes.identifier_kind,
    nodes.identifier_value,
    {{ nextmove.customer_id_of('root.identifier_kind', 'root.identifier_value') }} as customer_id,
    nodes.first_seen_at,
    nodes.last_seen_at
from components
inner join nodes on components.node_id = nodes.node_id
inner join nodes as root on components.root_id = root.node_id
