INSERT INTO order_items (id, order_id, sku, quantity, price_cents) VALUES (11, 99, 'apple', 1, 1000), (12, 99, 'pear', 1, 500);
INSERT INTO orders (id, customer_id, state, total_cents) VALUES (11, 99, 'paid', 0), (12, NULL, 'paid', 0);
INSERT INTO customers (id, email) VALUES (11, 'Ada@Example.com'), (12, 'ada@example.com');
INSERT INTO jobs (id, kind, subject, state, run_until, attempts) VALUES
    (11, 'receipt', 'order/2', 'queued', NULL, 0), (12, 'receipt', 'order/2', 'queued', NULL, 0),
    (13, 'import', 'all', 'running', '2020-01-01 00:00:00', 1);
INSERT INTO orders (id, customer_id, state, total_cents, pay_until) VALUES
    (13, 1, 'paying', 0, '2020-01-01 00:00:00'), (14, 1, 'paid', 999, NULL);
INSERT INTO order_items (id, order_id, sku, quantity, price_cents) VALUES (13, 14, 'plum', 1, 100);
