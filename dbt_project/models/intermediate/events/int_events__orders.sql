with orders as (
    select * from {{ ref('stg_shop__orders') }} where ordered_at <= {{ nextmove.as_of() }}
),

identity as (
    select * from {{ ref('int_identity__map') }}
),

resolved as (
    {{ nextmove.with_customer('orders', ['shop_customer_id', 'user_id', 'email']) }}
)

select
    order_id,
    customer_id,
    status,
    amount_cents - discount_cents as net_cents,
    ordered_at
from resolved
