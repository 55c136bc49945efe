{{ config(materialized='view') }}

with next_steps as (
    select * from {{ ref('int_outbox__next_steps') }}
)

select
    nextmove_decision_id as key,
    customer_id,
    contact_id,
    account_id,
    rep_id,
    'Look after: ' || replace(nextmove_agent, '_', ' ') as subject,
    nextmove_reason || ' ' || nextmove_next_step as description,
    nextmove_decided_at as decided_at
from next_steps
where
    nextmove_action <> 'no_action'
    -- Who is handed over to a rep is told of by that move itself.
    and nextmove_action not like 'rep.%'
    -- The agents with `crm_task`; none when none has it.
    and nextmove_agent in ('', '{{ var('nextmove_task_agents') | join("', '") }}')
