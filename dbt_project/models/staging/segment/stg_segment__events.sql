with source as (
    {{ nextmove.read_raw('segment_events', {
        'message_id': 'text',
        'anonymous_id': 'text',
        'user_id': 'text',
        'email': 'text',
        'phone': 'text',
        'type': 'text',
        'event': 'text',
        'platform': 'text',
        'page_path': 'text',
        'page_class': 'text',
        'session_id': 'text',
        'occurred_at': 'timestamp',
        'received_at': 'timestamp'
    }, optional=[
        'anonymous_id', 'user_id', 'email', 'phone', 'event', 'platform', 'page_path',
        'page_class', 'session_id', 'received_at'
    ]) }}
),

renamed as (
    select
        message_id,
        {{ nextmove.clean_id('anonymous_id') }} as anonymous_id,
        {{ nextmove.clean_id('user_id') }} as user_id,
        {{ nextmove.clean_email('email') }} as email,
        {{ nextmove.clean_phone('phone') }} as phone,
        type,
        event,
        platform,
        page_path,
        page_class,
        session_id,
        occurred_at,
        coalesce(received_at, occurred_at) as received_at
    from source
),

-- What the service has received itself. An event may come both ways, under one message_id.
tracked as (
    select
        message_id,
        anonymous_id,
        user_id,
        email,
        phone,
        type,
        event,
        platform,
        page_path,
        page_class,
        session_id,
        occurred_at,
        received_at
    from {{ ref('stg_nextmove__tracked_events') }}
)

select * from renamed
union all
select * from tracked
