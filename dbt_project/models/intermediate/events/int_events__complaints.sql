{{ config(materialized='view') }}

with complaints as (
    select *
    from {{ ref('stg_support__tickets') }}
    where kind = 'complaint' and created_at <= {{ nextmove.as_of() }}
),

identity as (
    select * from {{ ref('int_identity__map') }}
),

resolved as (
    {{ nextmove.with_customer('complaints', ['email']) }}
)

select
    ticket_id,
    customer_id,
    sentiment,
    -- A ticket solved after as_of was still open then.
    status <> 'solved' or solved_at > {{ nextmove.as_of() }} as is_open,
    created_at
from resolved
