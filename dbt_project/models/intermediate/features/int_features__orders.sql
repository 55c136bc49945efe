with paid as (
    select * from {{ ref('int_events__orders') }} where status = 'paid'
)

select
    customer_id,
    max(ordered_at) as last_order_at,
    cast(count(*) as integer) as orders_count,
    {{ nextmove.count_within('ordered_at', 2160) }} as orders_90d,
    cast(sum(net_cents) as bigint) as revenue_cents,
    cast(sum(net_cents) as double precision) / count(*) as avg_order_cents
from paid
group by 1
