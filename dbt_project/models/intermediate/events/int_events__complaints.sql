{{ config(materialized='view', tags=['standing']) }}

with openings as (
    select distinct ticket_id, user_id, anonymous_id, email
    from {{ ref('int_events__ticket_turns') }}
    where is_solved = 0
),

identity as (
    select * from {{ ref('int_identity__map') }}
),

resolved as (
    {{ nextmove.with_customer('openings', ['user_id', 'anonymous_id', 'email']) }}
),

-- A help desk may open a ticket again in its own name: it stays the complaint of who opened it first.
complainants as (
    select distinct ticket_id, customer_id from resolved
)

select
    tickets.ticket_id,
    complainants.customer_id,
    tickets.sentiment,
    tickets.is_open,
    tickets.created_at
from {{ ref('int_events__tickets') }} as tickets
inner join complainants on tickets.ticket_id = complainants.ticket_id
where tickets.kind = 'complaint'
