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
        source.at as attempted_at
    from source
)

select * from renamed
