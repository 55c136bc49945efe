{#- The codes are those of the decision log. -#}
{% set names = [
    'kill_switch', 'stale_profile', 'suppressed', 'no_consent', 'unreachable', 'open_complaint',
    'not_eligible', 'unknown_zone', 'quiet_hours', 'frequency_cap', 'other_channel',
    'legal_window', 'blackout',
    'project_rule', 'agent_rule', 'excluded', 'paused', 'frozen', 'small_list', 'pinned', 'budget',
    'bad_data', 'ramp'
] %}

with decisions as (
    select decision_id, agent, cast(decided_at as date) as decided_date
    from {{ ref('stg_nextmove__decisions') }}
    where group_name = 'treatment'
),

reasons as (
    select * from {{ ref('stg_nextmove__reasons') }} where code > 0
)

select
    decisions.decided_date,
    decisions.agent,
    case reasons.code
        {% for name in names %}
        when {{ loop.index }} then '{{ name }}'
        {% endfor %}
        else 'other'
    end as reason,
    count(distinct decisions.decision_id) as decisions,
    count(*) as blocked_actions
from decisions
inner join reasons on decisions.decision_id = reasons.decision_id
group by 1, 2, 3
