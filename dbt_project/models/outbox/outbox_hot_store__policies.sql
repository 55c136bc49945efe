{#- A view, so that what was learned after the build goes out in the same round. -#}
{{ config(materialized='view', tags=['standing']) }}

with agents as (
    select distinct agent from {{ ref('stg_nextmove__agent_outcomes') }}
)

select
    states.agent as key,
    states.version,
    states.policy,
    states.n_decisions,
    {{ nextmove.epoch_us('states.as_of') }} as as_of,
    {{ nextmove.base64('states.state') }} as state
from {{ ref('stg_nextmove__policy_states') }} as states
inner join agents on states.agent = agents.agent
where states.is_current
