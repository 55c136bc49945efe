with source as (
    {{ nextmove.read_engine('decisions', {
        'decision_id': 'text',
        'epoch_id': 'text',
        'slot': 'text',
        'agent': 'text',
        'customer_id': 'text',
        'group_name': 'text',
        'policy': 'text',
        'policy_version': 'text',
        'action': 'text',
        'channel': 'text',
        'creative': 'text',
        'incentive': 'text',
        'carried_out_by': 'text',
        'p_agent': 'double precision',
        'p_action': 'double precision',
        'propensity': 'double precision',
        'floor': 'double precision',
        'n_actions': 'integer',
        'n_eligible': 'integer',
        'is_promotional': 'boolean',
        'decided_at': 'timestamp',
        'send_at': 'timestamp',
        'expires_at': 'timestamp'
    }) }}
),

renamed as (
    select
        decision_id,
        epoch_id,
        slot,
        agent,
        customer_id,
        group_name,
        policy,
        policy_version,
        action,
        {{ nextmove.clean_id('channel') }} as channel,
        {{ nextmove.clean_id('creative') }} as creative,
        incentive,
        carried_out_by,
        p_agent,
        p_action,
        propensity,
        floor,
        n_actions,
        n_eligible,
        is_promotional,
        decided_at,
        send_at,
        expires_at
    from source
)

select * from renamed
