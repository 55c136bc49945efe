with source as (
    {{ nextmove.read_raw('esp_events', {
        'event_id': 'text',
        'vendor': 'text',
        'event_type': 'text',
        'external_id': 'text',
        'email': 'text',
        'channel': 'text',
        'campaign_id': 'text',
        'message_ref': 'text',
        'decision_id': 'text',
        'is_machine': 'boolean',
        'occurred_at': 'timestamp',
        'received_at': 'timestamp'
    }, optional=[
        'email', 'campaign_id', 'message_ref', 'decision_id', 'is_machine',
        'received_at'
    ]) }}
),

renamed as (
    select
        event_id,
        vendor,
        event_type,
        {{ nextmove.clean_id('external_id') }} as external_id,
        {{ nextmove.clean_email('email') }} as email,
        channel,
        campaign_id,
        message_ref,
        decision_id,
        coalesce(is_machine, false) as is_machine,
        occurred_at,
        coalesce(received_at, occurred_at) as received_at
    from source
)

select * from renamed
