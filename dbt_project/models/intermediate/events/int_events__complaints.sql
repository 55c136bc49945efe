{{ config(materialized='view') }}

with complaints as (
    select * from {{ ref('int_events__tickets') }} where kind = 'complaint'
),

identity as (
    select * from {{ ref('int_identity__map') }}
),

resolved as (
    {{ nextmove.with_customer('complaints', ['user_id', 'anonymous_id', 'email']) }}
)

select
    ticket_id,
    customer_id,
    sentiment,
    is_open,
    created_at
from resolved
