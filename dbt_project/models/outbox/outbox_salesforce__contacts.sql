with next_steps as (
    select * from {{ ref('int_outbox__next_steps') }}
)

select
    next_steps.external_id as key,
    next_steps.external_id,
    next_steps.customer_id,
    next_steps.nextmove_decision_id,
    next_steps.nextmove_action,
    next_steps.nextmove_agent,
    next_steps.nextmove_reason,
    next_steps.nextmove_next_step,
    next_steps.nextmove_confidence,
    next_steps.nextmove_decided_at
from next_steps
