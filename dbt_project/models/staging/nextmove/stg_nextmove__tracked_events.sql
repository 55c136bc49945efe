with source as (
    {{ nextmove.read_engine('tracked_events', {
        'message_id': 'text',
        'type': 'text',
        'event': 'text',
        'anonymous_id': 'text',
        'user_id': 'text',
        'email': 'text',
        'phone': 'text',
        'platform': 'text',
        'page_path': 'text',
        'page_class': 'text',
        'session_id': 'text',
        'ticket_id': 'text',
        'ticket_kind': 'text',
        'sentiment': 'double precision',
        'properties': 'text',
        'occurred_at': 'timestamp',
        'received_at': 'timestamp'
    }) }}
),

renamed as (
    select
        message_id,
        type,
        event,
        {{ nextmove.clean_id('anonymous_id') }} as anonymous_id,
        {{ nextmove.clean_id('user_id') }} as user_id,
        {{ nextmove.clean_email('email') }} as email,
        {{ nextmove.clean_phone('phone') }} as phone,
        platform,
        page_path,
        page_class,
        session_id,
        ticket_id,
        ticket_kind,
        sentiment,
        properties,
        occurred_at,
        received_at
    from source
)

select * from renamed
