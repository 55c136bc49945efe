{#- The codes are those of the decision log. -#}
{% set reasons = [
    'kill_switch', 'stale_profile', 'suppressed', 'no_consent', 'unreachable', 'open_complaint',
    'not_eligible', 'unknown_zone', 'quiet_hours', 'frequency_cap', 'other_channel'
] %}

with decisions as (
    select decision_id, agent, cast(decided_at as date) as decided_date, reasons
    from {{ ref('stg_nextmove__decisions') }}
    where group_name = 'treatment'
),

actions as (
    {{ nextmove.unnest_codes('decisions', 'reasons') }}
)

select
    decided_date,
    agent,
    case code
        {% for reason in reasons %}
        when {{ loop.index }} then '{{ reason }}'
        {% endfor %}
        else 'other'
    end as reason,
    count(distinct decision_id) as decisions,
    count(*) as blocked_actions
from actions
where code > 0
group by 1, 2, 3
