with decisions as (
    select * from {{ ref('stg_nextmove__decisions') }} where decided_at <= {{ nextmove.as_of() }}
),

merges as (
    select * from {{ ref('int_identity__merges') }}
)

select
    decisions.decision_id,
    decisions.epoch_id,
    decisions.slot,
    decisions.agent,
    coalesce(merges.customer_id, decisions.customer_id) as customer_id,
    decisions.decided_at,
    decisions.group_name,
    decisions.policy,
    decisions.policy_version,
    decisions.action,
    decisions.channel,
    decisions.creative,
    decisions.incentive,
    decisions.is_promotional,
    decisions.carried_out_by,
    decisions.send_at,
    decisions.expires_at,
    decisions.p_agent,
    decisions.p_action,
    decisions.propensity,
    decisions.floor,
    decisions.n_actions,
    decisions.n_eligible
from decisions
left join merges on decisions.customer_id = merges.old_customer_id
