{#- A view, so that what was learned after the build goes out in the same round. -#}
{{ config(materialized='view', tags=['standing']) }}

with agents as (
    select distinct agent from {{ ref('stg_nextmove__agent_outcomes') }}
),

checks as (
    select * from {{ ref('stg_nextmove__data_checks') }}
),

-- What failed when profiles were last looked at goes with the state, so that they change together.
findings as (
    select {{ dbt.listagg("column_name || ':' || failed", "'\n'", 'order by column_name') }} as distrusted
    from checks
    where failed is not null and as_of = (select max(as_of) from checks)
)

select
    states.agent as key,
    states.version,
    states.policy,
    states.n_decisions,
    {{ nextmove.epoch_us('states.as_of') }} as as_of,
    {{ nextmove.base64('states.state') }} as state,
    findings.distrusted
from {{ ref('stg_nextmove__policy_states') }} as states
inner join agents on states.agent = agents.agent
cross join findings
where states.is_current
