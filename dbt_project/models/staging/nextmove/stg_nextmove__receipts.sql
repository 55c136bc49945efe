with source as (
    {{ nextmove.read_engine('receipts', {
        'send_key': 'text',
        'decision_id': 'text',
        'customer_id': 'text',
        'destination': 'text',
        'stream': 'text',
        'vendor_ref': 'text',
        'status': 'text',
        'reason': 'text',
        'attempt': 'integer',
        'http_status': 'integer',
        'at': 'timestamp'
    }) }}
),

settled as (
    select
        source.*,
        -- A send that was unknown until a webhook showed it to have arrived was accepted.
        status = 'unknown'
        and max(case when status = 'accepted' then 1 else 0 end) over (partition by send_key) = 1
        as is_settled
    from source
),

renamed as (
    select
        send_key,
        decision_id,
        customer_id,
        destination,
        stream,
        vendor_ref,
        status,
        reason,
        attempt,
        http_status,
        settled.at as attempted_at
    from settled
    where not is_settled
)

select * from renamed
